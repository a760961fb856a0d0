"""What two services or more use."""

import os

# Read by grpc when it begins: an event then goes from the socket to the loop by one thread instead
# of four, and a call that is alone takes half the time.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
# Read by grpc once, when it is imported: it has no other way to ask for TLS 1.3. The one suite of
# TLS 1.2 that is allowed needs a shared secret that nobody has set, so 1.2 is never agreed on; the
# suites of 1.3 are not concerned. Who must serve 1.2 sets the variable to suites of 1.2.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-CHACHA20-POLY1305")
