"""The README's walk from signing up to a notebook, in a real browser.

    walk.py DIALTONE FOLDER

DIALTONE is the program, FOLDER takes its data and screenshots. JupyterLab must be on the PATH, and Chromium with its
driver on the machine. `./test browser` brings both.
"""

import json
import pathlib
import subprocess
import sys
import time

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support import expected_conditions as present
from selenium.webdriver.support.ui import WebDriverWait

WITHIN = 120


def browser():
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(flag)
    options.binary_location = "/usr/bin/chromium"
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


class Walk:
    def __init__(self, site, folder):
        self.page, self.site, self.folder = browser(), site, folder

    def until(self, condition):
        return WebDriverWait(self.page, WITHIN).until(condition)

    def there(self, selector):
        return self.until(present.element_to_be_clickable((By.CSS_SELECTOR, selector)))

    def press(self, label):
        self.until(present.element_to_be_clickable((By.XPATH, f"//button[.='{label}']"))).click()

    def fill(self, **fields):
        for name, value in fields.items():
            self.page.find_element(By.NAME, name).send_keys(value)

    def show(self, name):
        self.page.save_screenshot(str(self.folder / f"{name}.png"))

    def sign_up(self):
        self.page.get(self.site)
        self.page.find_element(By.LINK_TEXT, "Make an account").click()
        self.fill(firstName="Grace", lastName="Hopper", email="grace@example.org", password="difference-engine-9")
        self.press("Make an account")
        self.until(present.title_contains("Projects"))
        self.show("1-projects")

    def start(self):
        self.fill(title="Walk")
        self.press("Make a project")
        self.until(present.title_contains("Walk"))
        self.press("Start")
        self.until(present.presence_of_element_located((By.LINK_TEXT, "JupyterLab")))
        self.show("2-running")
        return self.page.current_url

    def compute(self):
        self.page.find_element(By.LINK_TEXT, "JupyterLab").click()
        self.there('.jp-LauncherCard[data-category="Notebook"]').click()
        cell = self.there(".jp-Notebook .cm-content")
        # A cell that is run before its kernel is there is run when it is.
        self.until(lambda page: "Idle" in page.find_element(By.ID, "jp-bottom-panel").text)
        cell.click()
        cell.send_keys("print(sum(range(1000)))", Keys.SHIFT, Keys.ENTER)
        self.until(lambda page: "499500" in page.find_element(By.CSS_SELECTOR, ".jp-Notebook").text)
        self.show("3-notebook")

    def plot(self):
        """A picture that matplotlib draws in the kernel appears below its cell."""
        cells = self.page.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell .cm-content")
        cells[-1].click()
        lines = "import matplotlib.pyplot as plt; plt.plot([n * n for n in range(50)]); plt.show()"
        cells[-1].send_keys(lines, Keys.SHIFT, Keys.ENTER)
        picture = ".jp-OutputArea-output img[src^='data:image/png']"
        drawn = self.until(present.presence_of_element_located((By.CSS_SELECTOR, picture)))
        size = "return arguments[0].complete && arguments[0].naturalWidth * arguments[0].naturalHeight"
        self.until(lambda page: page.execute_script(size, drawn) > 10_000)
        self.page.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawn)
        self.show("4-plot")

    def terminal(self):
        """A terminal of JupyterLab, whose WebSocket passes through the proxy, answers what is typed."""
        self.page.find_element(By.CSS_SELECTOR, ".jp-NotebookPanel").click()
        ActionChains(self.page).key_down(Keys.CONTROL).key_down(Keys.SHIFT).send_keys("l").key_up(Keys.SHIFT).key_up(
            Keys.CONTROL
        ).perform()
        cards = '.jp-LauncherCard[data-category="Other"][title*="terminal" i]'
        self.there(cards).click()
        self.there(".jp-Terminal .xterm-screen").click()
        typed = self.page.find_element(By.CSS_SELECTOR, ".jp-Terminal .xterm-helper-textarea")
        # What is looked for must not be what is typed. The answer is a file, because terminals may paint on a canvas.
        typed.send_keys("echo $((6 * 7)) > answer.txt; tty >> answer.txt; pwd >> answer.txt", Keys.ENTER)
        answer = self.home() / "answer.txt"
        self.until(lambda _page: answer.exists() and answer.read_text().count("\n") == 3)
        number, device, folder = answer.read_text().splitlines()
        if number != "42" or not device.startswith("/dev/pts/") or folder != str(self.home()):
            raise AssertionError(f"the terminal answered {answer.read_text()!r}")
        typed.send_keys("cat answer.txt", Keys.ENTER)
        time.sleep(1)  # For the picture alone: nothing is looked for in it.
        self.show("5-terminal")

    def home(self):
        homes = list((self.folder / "data" / "projects").iterdir())
        if len(homes) != 1:
            raise AssertionError(f"one project was made, and there are {homes}")
        return homes[0]

    def stop(self, project):
        self.page.get(project)
        self.press("Stop")
        self.until(lambda page: page.find_element(By.CSS_SELECTOR, ".state").text == "stopped")
        self.show("6-stopped")


def started(program, folder):
    ready = folder / "ready.json"
    arguments = ["up", "--data", folder / "data", "--listen", "ws://127.0.0.1:0", "--monitor", "off"]
    arguments += ["--hub-listen", "127.0.0.1:0", "--ready-file", ready]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    end = time.monotonic() + WITHIN
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("dialtone up is not ready")
        time.sleep(0.1)
    return process, json.loads(ready.read_text())["http"]


def left_behind(folder):
    """Processes that have something of this folder open as their home."""
    found = []
    for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(variable.startswith(b"HOME=" + bytes(folder)) for variable in variables):
            found.append(environ.parent.name)
    return found


def main():
    program, folder = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    process, site = started(program, folder)
    walk = None
    try:
        walk = Walk(site, folder)
        walk.sign_up()
        project = walk.start()
        walk.compute()
        walk.plot()
        walk.terminal()
        walk.stop(project)
        left = left_behind(folder)
        if left:
            sys.exit(f"a project that was stopped has left processes: {left}")
    except Exception:
        if walk:
            walk.show("failed")
        raise
    finally:
        # With a page still open: no browser may keep a site from ending.
        process.terminate()
        code = process.wait(WITHIN)
        if walk:
            walk.page.quit()
    if code != 0:
        sys.exit(f"dialtone up has ended with {code}")
    print(f"signed up, started, computed, plotted, typed and stopped; the screenshots are in {folder}")


main()
