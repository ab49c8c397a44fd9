"""The sample shop: a small SQLite database, the same bytes of data on every machine.

Owns the schema and the rows.  Every value is computed from the row's number, so nothing is downloaded and nothing is random.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_ORDER_ITEMS: Final = 240_000
MIN_ORDER_ITEMS: Final = 1_000
ITEMS_PER_ORDER: Final = 4
ORDERS_PER_CUSTOMER: Final = 10
PRODUCT_COUNT: Final = 480

TABLES: Final = ("customers", "products", "orders", "order_items")

# A multiplier with full period modulo 2**31: rows look unordered, and are the same everywhere.
_SCHEMA: Final = """
CREATE TABLE customers (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL,
    email        TEXT    NOT NULL,
    city         TEXT,
    is_active    BOOLEAN NOT NULL,
    signed_up_on DATE    NOT NULL
);
CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    sku         TEXT    NOT NULL,
    title       TEXT    NOT NULL,
    price_cents INTEGER NOT NULL,
    weight_kg   REAL
);
CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status      TEXT    NOT NULL,
    ordered_at  TIMESTAMP NOT NULL,
    note        TEXT
);
CREATE TABLE order_items (
    id          INTEGER PRIMARY KEY,
    order_id    INTEGER NOT NULL REFERENCES orders (id),
    product_id  INTEGER NOT NULL REFERENCES products (id),
    quantity    INTEGER NOT NULL,
    price_cents INTEGER NOT NULL,
    discount    REAL
);
"""

_NUMBERS: Final = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count),
     mixed (n, r) AS (SELECT n, (n * 1103515245 + 12345) % 2147483648 FROM numbers)
"""

_CUSTOMERS: Final = """
INSERT INTO customers (id, name, email, city, is_active, signed_up_on)
{numbers}
SELECT n,
       CASE r / 97 % 6 WHEN 0 THEN 'Ada' WHEN 1 THEN 'Björn' WHEN 2 THEN 'Chloé' WHEN 3 THEN 'Đức' WHEN 4 THEN 'Elena' ELSE '芳子' END
         || ' ' ||
       CASE r / 1009 % 5 WHEN 0 THEN 'Smith' WHEN 1 THEN 'O''Neill' WHEN 2 THEN 'Núñez' WHEN 3 THEN 'Kowalski, Jr.' ELSE 'Nguyễn' END,
       'customer' || n || '@example.com',
       CASE r / 31 % 7 WHEN 0 THEN 'Lisboa' WHEN 1 THEN 'Zürich' WHEN 2 THEN 'Oslo' WHEN 3 THEN 'Kraków' WHEN 4 THEN 'Osaka'
                       WHEN 5 THEN 'Quito' END,
       r / 13 % 10 < 8,
       date('2021-01-01', '+' || (r / 7 % 1600) || ' days')
FROM mixed
"""

_PRODUCTS: Final = """
INSERT INTO products (id, sku, title, price_cents, weight_kg)
{numbers}
SELECT n,
       printf('SKU-%05d', n),
       CASE r / 17 % 4 WHEN 0 THEN 'Desk lamp' WHEN 1 THEN 'Notebook, "A5"' WHEN 2 THEN 'Coffee grinder' ELSE 'Bicycle bell' END || ' no. ' || n,
       199 + r / 5 % 49800,
       CASE WHEN r / 3 % 9 = 0 THEN NULL ELSE (r / 11 % 4000) / 64.0 END
FROM mixed
"""

_ORDERS: Final = """
INSERT INTO orders (id, customer_id, status, ordered_at, note)
{numbers}
SELECT n,
       1 + r / 2 % :customers,
       CASE WHEN n > :count - :count / 50 THEN 'new' WHEN r / 19 % 20 = 0 THEN 'cancelled' ELSE 'shipped' END,
       strftime('%Y-%m-%d %H:%M:%S', 1672531200 + n * (63072000 / :count), 'unixepoch'),
       CASE WHEN r / 23 % 25 = 0 THEN 'Leave at the door' || char(10) || '"ring twice"' END
FROM mixed
"""

_ORDER_ITEMS: Final = """
INSERT INTO order_items (id, order_id, product_id, quantity, price_cents, discount)
{numbers}
SELECT n,
       1 + (n - 1) / :per_order,
       1 + r / 8 % :products,
       1 + r / 4096 % 5,
       199 + r / 5 % 49800,
       CASE WHEN r / 29 % 4 = 0 THEN (r / 41 % 8) / 32.0 END
FROM mixed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSize:
    """How many rows each table gets; everything follows from the number of order items."""

    order_items: int = DEFAULT_ORDER_ITEMS

    def __post_init__(self) -> None:
        if self.order_items < MIN_ORDER_ITEMS:
            raise ValueError(f"the shop needs at least {MIN_ORDER_ITEMS} order items, not {self.order_items}")

    @property
    def orders(self) -> int:
        """Orders that hold the items, the last one perhaps fewer than the others."""
        return -(-self.order_items // ITEMS_PER_ORDER)

    @property
    def customers(self) -> int:
        """Customers of those orders."""
        return -(-self.orders // ORDERS_PER_CUSTOMER)

    def row_counts(self) -> dict[str, int]:
        """Rows of each table."""
        return {
            "customers": self.customers,
            "products": PRODUCT_COUNT,
            "orders": self.orders,
            "order_items": self.order_items,
        }


def create_shop(path: Path, shop_size: ShopSize) -> None:
    """Write the shop to a new SQLite file at ``path``.

    Raises:
        FileExistsError: If ``path`` exists: a database is never overwritten.
    """
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as shop:
        shop.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        with shop:
            for statement, count in (
                (_CUSTOMERS, shop_size.customers),
                (_PRODUCTS, PRODUCT_COUNT),
                (_ORDERS, shop_size.orders),
                (_ORDER_ITEMS, shop_size.order_items),
            ):
                shop.execute(
                    statement.format(numbers=_NUMBERS),
                    {
                        "count": count,
                        "customers": shop_size.customers,
                        "products": PRODUCT_COUNT,
                        "per_order": ITEMS_PER_ORDER,
                    },
                )
        shop.execute("ANALYZE")
