"""Films of plain data, and their pictures in SVG for where nothing runs."""
