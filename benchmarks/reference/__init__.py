"""What the product is compared with: a bare DRF view and a constant answer, on the same server as the product."""

BLOG_COUNT = "blog:coupon_count"
"""Redis's key in blog.py."""
