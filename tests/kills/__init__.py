"""The kill campaign: real processes, SIGKILL at random instants and at the edges of requests, and a strict judge."""
