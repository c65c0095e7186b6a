"""Reports: result files -> one self-contained HTML page. Never loads torch."""
