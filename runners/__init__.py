"""FlashDreams runners, registered through the entry-point group ``flashdreams.runner_configs``."""
