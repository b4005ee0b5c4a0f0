//! pgate's integration tests: one binary, one module for each thing that a
//! person would try.

mod agreement;
mod attacks;
mod catalog;
mod cli;
mod cluster;
mod connect;
mod curated;
mod demo;
mod documentation;
mod drivers;
mod end_to_end;
mod fuzz;
mod generated;
mod harness;
mod holds;
mod installer;
mod introspection;
mod issuer;
mod layers;
mod lineage;
mod log;
mod masking;
mod masks;
mod migrations;
mod policy;
mod privileges;
mod proxy;
mod regression;
mod server;
mod shop;
mod stage;
mod suites;
mod workflows;
