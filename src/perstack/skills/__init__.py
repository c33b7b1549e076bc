"""Skills: the tools of an expert, built in, from child processes and over HTTP."""
