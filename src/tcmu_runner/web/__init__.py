"""Status page and metrics over HTTP: read-only, and off unless the settings enable them.

page: the status page, one HTML file without outside assets, as package data.

collector  devices in Prometheus' text format
report     the page's data, as JSON, which it fetches each second
request    the head of an HTTP request
server     HTTP for a few small documents
site       the documents and their paths: /, /status.json, /metrics
"""
