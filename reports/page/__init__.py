"""What every page is made of: the document and its blocks, values with their errors, provenance, templates."""
