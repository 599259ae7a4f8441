"""What the pages of Flowcept 1.0.3's web service show in Chromium, as JSON: look.py URL FOLDER PAGE[#BUTTON]…

Of each page, after the button of that name: its text, the nodes and edges of its graph, how many dots its charts have drawn. Pictures
of all pages go into the folder.
"""

import json
import sys
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DRAWN = """let dots = 0;
for (const canvas of document.querySelectorAll('canvas')) {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  // Lines and bars have colours; axes and labels are grey.
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 128 && Math.max(...data.slice(i, i + 3)) - Math.min(...data.slice(i, i + 3)) > 20) dots++;
}
return dots;"""

options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1700,1300"):
    options.add_argument(argument)
url, folder, *pages = sys.argv[1:]
seen = []
with webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver")) as browser:

    def look():
        """The page as it is now."""
        find = lambda css: browser.find_elements("css selector", css)
        return {
            "text": browser.find_element("tag name", "body").text,
            "nodes": [node.get_attribute("data-id") for node in find(".react-flow__node")],
            "edges": [edge.get_attribute("data-testid").removeprefix("rf__edge-") for edge in find(".react-flow__edge")],
            "drawn": browser.execute_script(DRAWN),
        }

    for number, page in enumerate(pages):
        path, _, button = page.partition("#")
        browser.get(url + path)
        browser.implicitly_wait(20)
        if button:
            browser.find_element("xpath", f"//button[normalize-space(.)='{button}']").click()
        browser.implicitly_wait(0)
        # It is whole when it no longer changes.
        before, now = None, look()
        for _ in range(20):
            time.sleep(1)
            before, now = now, look()
            if before == now and "oading" not in now["text"]:
                break
        browser.save_screenshot(f"{folder}/page{number}.png")
        seen.append(now)
print(json.dumps(seen))
