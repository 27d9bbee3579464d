"""Where two computations of one model part: both sides' stages beside their floor, and a verdict that is proved."""
