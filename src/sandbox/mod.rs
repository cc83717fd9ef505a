//! A loopback WhatsApp network with simulated phones. Names none of the other rooms.
