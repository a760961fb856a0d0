"""Tools that compute: texts, numbers, dates, ids."""
