"""What a browser and Prometheus see of the daemon: read-only, over HTTP, off unless the settings say so.

page       the status page: one HTML file without outside assets, package data.

collector  devices in Prometheus' text format
report     what the page asks for each second, as JSON
request    the head of an HTTP request
server     HTTP for a few small documents
site       the documents and their paths: /, /status.json, /metrics
"""
