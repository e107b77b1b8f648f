mod clients;
mod data;
mod faults;
mod wire;
