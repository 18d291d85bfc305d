"""Pictures, pages and files made of plain data and an open atlas."""
