"""How requests are repeated and paced: policies and limits, with clock, sleep and randomness as parameters."""
