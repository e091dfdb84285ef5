"""More load than a server can take, and servers that end, die and change while they are asked."""
