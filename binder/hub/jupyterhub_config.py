"""JupyterHub for a class on one server; `README.md` beside this file says how to start it.

Each student is a system account of the group `students`, with a home that nobody else can read.
`LocalProcessSpawner` starts a student's server but cannot hold it to its core: `start` sets its
memory limit and its priority. Where jupyterhub-systemdspawner is installed,
`c.JupyterHub.spawner_class = "systemd"` makes the kernel of the system enforce both numbers.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
MINUTE = 60
c = get_config()

# Behind a proxy that speaks TLS: passwords do not cross the network as they are.
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.LocalAuthenticator.allowed_groups = {"students"}

# A lesson holds up to 1,000 MB, most of them 600; a server beside it about 100.
c.Spawner.mem_limit = "1500M"
c.Spawner.cpu_limit = 1
c.Spawner.environment = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",  # minillm and torch: more threads would wait for other students'
}
c.Spawner.cmd = [str(HERE / "start")]
c.Spawner.default_url = "/lab/tree/minillm-lessons/00_transformer.ipynb"
c.Spawner.args = [
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--NotebookNotary.db_file=:memory:",  # else no notebook opens in a home that is full
    f"--MappingKernelManager.cull_idle_timeout={30 * MINUTE}",
    f"--MappingKernelManager.cull_interval={5 * MINUTE}",
]
c.Spawner.start_timeout = c.Spawner.http_timeout = 2 * MINUTE
c.JupyterHub.active_server_limit = 60
c.JupyterHub.concurrent_spawn_limit = 60  # a class comes at once: nobody is sent away

# A restart of the hub leaves the students' servers, and the way to them, as they are.
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.should_start = True
c.JupyterHub.cleanup_proxy = False

c.JupyterHub.services = [
    {
        "name": "culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={60 * MINUTE}"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["culler"],
    }
]
