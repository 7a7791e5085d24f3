//! libp2p over the runtime: transport, gossip, request and response, peer scores
