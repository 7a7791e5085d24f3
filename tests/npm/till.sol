// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// What the wallets' tests deploy: state, logs, both kinds of reverts, and money in and out.
contract Till {
    event Paid(address indexed from, uint256 amount, uint256 total);

    error TooMuch(uint256 asked, uint256 present);

    uint256 public total;
    mapping(address => uint256) public paidBy;

    function pay() external payable {
        require(msg.value > 0, "nothing was paid");
        total += msg.value;
        paidBy[msg.sender] += msg.value;
        emit Paid(msg.sender, msg.value, total);
    }

    function take(uint256 amount) external {
        if (amount > paidBy[msg.sender]) revert TooMuch(amount, paidBy[msg.sender]);
        paidBy[msg.sender] -= amount;
        total -= amount;
        (bool sent, ) = msg.sender.call{value: amount}("");
        require(sent, "not sent");
    }
}
