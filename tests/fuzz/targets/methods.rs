//! Payloads of methods and content headers: what is read and written again reads the same.

#![no_main]

use lanemq::protocol::content::ContentHeader;
use lanemq::protocol::method::Method;
use lanemq::protocol::properties::{Properties, PropertiesBuilder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    match Method::decode(payload) {
        Ok(method) => check_method(method),
        Err(error) => drop((error.refusal(), error.ids())),
    }
    match ContentHeader::decode(payload) {
        Ok(header) => check_properties(header.properties),
        Err(error) => drop(error.refusal()),
    }
    check_properties(payload);
});

fn check_method(method: Method<'_>) {
    let mut frame = Vec::new();
    method.encode(1, &mut frame);
    assert_eq!(Method::decode(&frame[7..frame.len() - 1]), Ok(method));
}

fn check_properties(bytes: &[u8]) {
    let untrusted = PropertiesBuilder::from(Properties::trusted(bytes));
    let properties = match Properties::new_checked(bytes) {
        Ok(properties) => properties,
        Err(error) => return drop(error.refusal()),
    };
    assert_eq!(PropertiesBuilder::from(properties), untrusted);
    let mut written = Vec::new();
    untrusted.encode(&mut written);
    let read = Properties::new_checked(&written).expect("what was written is well formed");
    assert_eq!(PropertiesBuilder::from(read), untrusted);
}
