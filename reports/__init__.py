"""Store to tables, charts, Markdown and HTML; measures nothing and judges nothing."""
