"""How what is known enters a network: one file a mechanism, all of them combinable."""
