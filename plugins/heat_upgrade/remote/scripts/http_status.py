"""Print the status code that each of some URLs answers with, or 000 if nothing answers."""

import sys
import urllib.error
import urllib.request
from http.client import HTTPException

# The host may have a proxy for its way out; its own services are not there.
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for url in sys.argv[1:]:
    try:
        with direct.open(url, timeout=10) as answer:
            print(answer.status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except (OSError, HTTPException):
        print("000")
