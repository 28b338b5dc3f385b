"""The same hub without accounts, for `load.py`: any name with one password, folders as homes.

All servers run as whoever starts this hub, who can read all homes: for loopback only.
"""

import os
from pathlib import Path

c = get_config()
load_subconfig(str(Path(__file__).with_name("jupyterhub_config.py")))

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = os.environ["REHEARSAL_PASSWORD"]
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.Spawner.env_keep.extend(["REHEARSAL_HOMES"])  # by which load.py knows what it started
c.SimpleLocalProcessSpawner.home_dir_template = os.environ["REHEARSAL_HOMES"] + "/{username}"
port = int(os.environ["REHEARSAL_PORT"])
c.JupyterHub.bind_url = f"http://127.0.0.1:{port}"
c.JupyterHub.hub_port = port + 1
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{port + 2}"
if os.geteuid() == 0:
    c.Spawner.args = [*c.Spawner.args, "--allow-root"]
