# these run inside the guest, started by test_guest.py
collect_ignore = ["guest"]
