"""Count what data sets lose: what was looked up of a data set that lost nothing still holds."""
