"""`ostiary store serve`: takes in what gateways hand over, and does the upkeep of the store."""
