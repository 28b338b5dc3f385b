"""The lessons as a site that needs no kernel and no network: `python -m widgets.site.build DIR`.

`record` runs in a lesson's kernel and keeps what its widgets show, `run` executes a lesson around
it, `page` writes HTML, `build` the whole site; `site.js` brings the records to life in a browser.
"""
