"""Decisions about the surplus: policy, mining, trading, staking, content. A process of its own; its rooms land with
their issues."""
