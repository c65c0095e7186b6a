"""How far the trace of the border reaches into the maps of a network, beside what its windows could carry."""
