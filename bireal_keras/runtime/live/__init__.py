"""A page that shows what a camera sees and what a model makes of it: `bireal-live`.

    camera ──► feed: one thread, one model ──► server: any number of viewers ──► page

The server is the package websockets, the extra `[live]`.
"""
