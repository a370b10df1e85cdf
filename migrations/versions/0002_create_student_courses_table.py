"""create student_courses table

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "student_courses",
        sa.Column("student_id", sa.Integer(), nullable=False),
        sa.Column("course_id", sa.Integer(), nullable=False),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("student_id", "course_id", name="pk_student_courses"),
        sa.ForeignKeyConstraint(
            ["student_id"], ["students.id"], name="fk_student_courses_student_id_students"
        ),
        sa.ForeignKeyConstraint(
            ["course_id"], ["courses.id"], name="fk_student_courses_course_id_courses"
        ),
    )


def downgrade() -> None:
    op.drop_table("student_courses")
