//! Stories: a real gateway on a real network, told over gRPC.

mod support;

mod calls;
mod command_line;
mod companions;
mod contacts;
mod conversation;
mod damage;
mod disk;
mod ending;
mod errors;
mod foreign;
mod groups;
mod groups_failing;
mod groups_joining;
mod groups_talking;
mod groups_trouble;
mod guards;
mod hostile;
mod hostile_callers;
mod kinds;
mod leaving;
mod manners;
mod media;
mod outbox;
mod pairing;
mod previews;
mod queues;
mod refused;
mod reinstalled;
mod statuses;
mod subscribe;
