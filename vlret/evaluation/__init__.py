"""From ranked passages to a table: metrics, significance, rendering."""
