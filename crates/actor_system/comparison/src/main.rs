mod alys; mod allocator; mod gear; mod kameo; mod measure; mod ractor; mod raw; mod actix;
#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting::new();
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let m = measure::Measure::ALL.into_iter().find(|m| m.name() == a[1]).unwrap();
    let c = measure::CONTENDERS.iter().find(|c| c.0 == a[2]).unwrap().1;
    println!("{:?}", m.run(c));
    std::process::exit(0);
}
