"""What a side runs in, from ``env.toml`` to a folder or an image that a trial can start in."""
