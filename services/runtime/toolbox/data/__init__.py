"""Tools that read data: JSON, CSV, XML, graphs, bibliographies."""
