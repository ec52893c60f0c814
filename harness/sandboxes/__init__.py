"""Where something runs, in a process or in a container, and what it may leave behind."""
