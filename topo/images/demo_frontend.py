"""The mission's frontend in real Streamlit: ``streamlit run demo_frontend.py``.

Streamlit runs the whole file for every session and every rerun. It imports nothing of the house.
"""

from __future__ import annotations

import json
import os
import urllib.request

import streamlit as st

service = os.environ.get("DB_SERVICE", "(not set)")
st.set_page_config(page_title="Frontend Deployment")
st.title("Frontend Deployment")
st.sidebar.header("Environment variables")
st.sidebar.write("DB_SERVICE:", service)
st.header("Data from Backend")
try:
    with urllib.request.urlopen(f"http://{service}/data", timeout=15) as answer:
        data = json.load(answer)
except (OSError, ValueError) as error:
    st.error(f"{service}: {error}")
else:
    st.json(data)
    st.table([{"country": country, "population": number} for country, number in data.items()])
