"""`/live`, `/ready` and `/metrics`."""

from aiohttp import web

from bridge import metrics
from bridge.metrics import Sample
from bridge.policy.change import Queue
from bridge.web.state import SERVICE, Service


async def live(_request: web.Request) -> web.Response:
    """Answer as long as the process answers."""
    return web.json_response({"live": True})


async def ready(request: web.Request) -> web.Response:
    """Answer 200 if an incident that came now would be stored and answered, else 503 with the reasons."""
    service = request.app[SERVICE]
    reasons = service.reasons()
    body = {"ready": not reasons, "reasons": reasons, "durable": service.durability.mode == "disk"}
    return web.json_response(body, status=503 if reasons else 200)


async def show_metrics(request: web.Request) -> web.Response:
    """Write the metrics of the whole bridge, whichever process counted them."""
    service = request.app[SERVICE]
    counters = {} if service.health is None else service.health.counters
    body = metrics.render(counters, _gauges(service))
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _gauges(service: Service) -> list[Sample]:
    health = service.health
    found: list[Sample] = [("store_durable", (), float(service.durability.mode == "disk"))]
    if health is None:
        return found
    found += [("store_used_bytes", (), health.used_bytes), ("store_max_bytes", (), service.max_bytes)]
    found.append(("store_replicas", (), health.replicas))
    for queue in Queue:
        seen = health.workers_seen.get(queue)
        found.append(("worker_seen_seconds", (queue,), -1 if seen is None else seen))
        lanes = health.lanes[queue]
        found.append(("lanes", (queue,), lanes.lanes))
        found.append(("lane_items", (queue,), lanes.items))
        found.append(("lane_oldest_seconds", (queue,), lanes.oldest_ready_age_seconds or 0))
    return found


def routes() -> list[web.RouteDef]:
    """Return the routes that every listener has."""
    return [web.get("/live", live), web.get("/ready", ready)]
