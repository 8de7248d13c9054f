//! Orders as a shop would send them, in XML: for the demo and the benchmarks. The same number gives the same order.

use std::fmt::Write as _;

/// Which order, and how large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Its number.
    pub(crate) number: u64,
    /// At least so many bytes of XML; further lines are added until it has them.
    pub(crate) bytes_min: usize,
}

const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "JP", "BR", "IN", "SE", "US"];
const NAMES: [&str; 8] = [
    "Åsa Lindqvist",
    "João Ferreira",
    "Miyu Tanaka",
    "Priya Nair",
    "Grace O'Neill",
    "Łukasz Wójcik",
    "Chidi Okafor",
    "Anna Müller & Söhne",
];
const GOODS: [(&str, &str, u64); 8] = [
    ("RIV-0400", "Blind rivet 4.0 × 10", 12),
    ("CBL-2210", "Cable gland M20", 145),
    ("PMP-0031", "Bilge pump 12 V", 8_990),
    ("ROP-1120", "Mooring rope 14 mm <20 m>", 4_250),
    ("LMP-0077", "Anchor light LED", 3_900),
    ("VLV-0503", "Ball valve ½\"", 1_180),
    ("FND-0110", "Fender 22 × 60", 2_700),
    ("CHT-0902", "Chart, German Bight", 2_995),
];

impl Order {
    /// Where it is shipped to.
    pub(crate) fn country(self) -> &'static str {
        COUNTRIES[usize::try_from(self.number % 8).unwrap_or_default()]
    }

    /// Its document.
    pub(crate) fn xml(self) -> String {
        let mut xml = String::with_capacity(self.bytes_min + 256);
        let Self { number, .. } = self;
        let name = NAMES[usize::try_from(number * 5 % 8).unwrap_or_default()];
        // Writing to a string cannot fail.
        let _ = write!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<order id=\"{number}\" currency=\"EUR\">\n  \
             <customer vip=\"{}\"><name>{}</name><country>{}</country></customer>\n  <items>",
            if number % 5 == 0 { "yes" } else { "no" },
            escaped(name),
            self.country(),
        );
        let mut line = 0;
        while line < 1 + number % 3 || xml.len() + 32 < self.bytes_min {
            let (sku, title, cents) = GOODS[usize::try_from((number + line * 3) % 8).unwrap_or_default()];
            let quantity = 1 + (number + line) % 4;
            let _ = write!(
                xml,
                "\n    <item sku=\"{sku}\"><title>{}</title><quantity>{quantity}</quantity><price>{}.{:02}</price></item>",
                escaped(title),
                cents / 100,
                cents % 100,
            );
            line += 1;
        }
        xml.push_str("\n  </items>\n</order>\n");
        xml
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_size_asked_for_within_one_line() {
        for number in 0..100 {
            let xml = Order { number, bytes_min: 1024 }.xml();
            assert!((980..1300).contains(&xml.len()), "{} bytes", xml.len());
        }
    }
}
