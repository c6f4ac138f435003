"""The event bus of a real master."""

import contextlib
import threading

import salt.utils.event


@contextlib.contextmanager
def heard(master):
    """The events on the bus while the context is entered: a list of ``(tag, data)`` that grows, in their order."""
    events, ended = [], threading.Event()

    def listen():
        with salt.utils.event.get_master_event(master.config, master.config["sock_dir"], listen=True) as bus:
            while not ended.is_set():
                event = bus.get_event(wait=1, full=True)
                if event:
                    events.append((event["tag"], event["data"]))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield events
    finally:
        ended.set()
        thread.join()
