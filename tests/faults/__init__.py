"""The fault table: one fault at a time under our transfers and under other tools', judged by bytes."""
