"""The chain side: nodes, templates, coinbases, found blocks. The only room that knows where work comes from."""
