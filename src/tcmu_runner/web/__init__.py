"""What a browser and Prometheus see of the daemon: read-only, over HTTP, off unless the settings say so.

site       the documents and their paths: /, /status.json, /metrics.
page       the status page: one HTML file without outside assets, package data.
report     what the page asks for each second, as JSON.
collector  the same numbers in Prometheus' text format.
server     HTTP for those who may be slow, broken or hostile.
"""
