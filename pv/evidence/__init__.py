"""Evidence at rest: the folder of statements, the runs that vouch for them, and the chain that shows an edit."""
