# test_guest.py runs these inside the guest
collect_ignore = ["guest"]
