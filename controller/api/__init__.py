"""The API: what every other room talks to, and through which all of them talk to each other.

    words       errors, kinds (the table), objects, selectors, wiring, status (Status and its wording)
    server      server (process, HTTP) → verbs, watch, discovery, routes, progress → registry → store, history
    rules       schema (published definitions), defaults, validate → rules_*, patch, scale, binding, deletion
    client      client, informer → transport
    manifests   documents (YAML) → manifests (every problem of a set, before anything is applied)

Only ``server`` and its door ``aiohttp_web`` know aiohttp, only ``store`` knows SQLite, only
``transport`` knows sockets; the rest are values and functions.
"""
