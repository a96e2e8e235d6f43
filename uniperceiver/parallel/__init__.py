"""MANY PROCESSES, ONE RUN: who there is, what they agree on, who makes what, and how their gradients become one."""
