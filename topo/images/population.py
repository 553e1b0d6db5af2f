"""What the mission's little database holds; the light backend and the real Flask one serve the same. Pure."""

POPULATION = {
    "China": "1,412,600,000",
    "India": "1,407,563,842",
    "USA": "332,951,233",
    "Indonesia": "272,248,500",
    "Pakistan": "235,824,862",
}
PAGES = {
    "/": "<h1>Backend Deployment</h1>\n<p>Five populations: <a href='/data'>/data</a></p>\n",
    "/liveness": "<h1>Backend is alive</h1>\n",
    "/readiness": "<h1>Backend is ready</h1>\n",
}
