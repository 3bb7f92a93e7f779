"""The console at `/`: what an operator sees and decides in a browser (DESIGN §11).

A page is one file here and one template of the same name in `templates/`; to add one:

1.  `async def show(visit: Visit) -> Response` in `page.py` loads records of `visit.hosts` (what this person may see,
    and as what) and returns `visit.page("page.html", title=…, …)`; plain records go in, the template words them.
2.  `async def act(visit: Visit) -> Response` for a form: `visit.host(…)` or `visit.acting(host)` first (404, 403),
    `await visit.field("name")` for what was typed, a story of `pipeline/` with `visit.actor`, then
    `visit.back("/page", "said")` with a key of `render.SAID`. Errors of `bridge.errors` may pass: they get a page.
3.  `routes()` lists them with `guard.get` and `guard.post`, and is named in `site.PAGES`; nothing else registers a
    route. A GET changes nothing; every POST form has `{{ token() }}`; who is not signed in reaches neither.
4.  The template extends `base.html`; every `{{ … }}` is escaped and its control and bidi characters are shown, also
    without a filter. No `style=`, no inline script: the Content-Security-Policy refuses them. Macros: `macros.html`.
5.  A page people look for gets a line in `render.NAVIGATION`, a test in `tests/system/test_console.py` in a real
    browser, without JavaScript, on a phone.
"""
