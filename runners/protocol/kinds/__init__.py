"""Kinds of network: parameter shapes, and the products and attentions of one layer.

Weights, the estimate of memory and the kernel time are all made from these. Standard library only
and Python 3.10, as ``wire``: harness and sides import it.
"""

from runners.protocol.kinds import cosmos, wan
from runners.protocol.kinds.kind import NetworkKind

KINDS: dict[str, NetworkKind] = {"cosmos": cosmos.COSMOS, "wan": wan.WAN}
"""``Network.kind`` to what is known of it."""
